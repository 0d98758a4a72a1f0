"""Committed records: the source of the tables that the README prints."""
