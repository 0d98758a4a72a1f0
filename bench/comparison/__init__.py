"""The second datum beside the record: two versions or settings measured in turns, and what is concluded from it."""
