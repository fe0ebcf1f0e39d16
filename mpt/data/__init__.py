"""The pure data plane: it moves packets, and does not know Twisted or Linux."""
