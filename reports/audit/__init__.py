"""What printed counts are, if not the exact ones: pure functions from rows and profiles to findings and tables."""
