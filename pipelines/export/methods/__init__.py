"""How each method is exported, and what methods of one family share."""
