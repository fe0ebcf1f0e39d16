"""The pure data plane: it moves packets and knows nothing of Twisted or Linux commands."""
