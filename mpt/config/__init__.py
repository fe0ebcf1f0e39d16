"""Configuration files to frozen values: the schema, the INI parser, one connection file, the whole directory."""
