"""Configuration files to frozen values, and back."""
