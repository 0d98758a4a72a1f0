"""The command line: from a user's words to typed requests, and from results to what is printed."""
