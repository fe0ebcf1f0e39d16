"""The fakes that tests import."""
