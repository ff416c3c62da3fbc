"""Lines, passages and streams: what repeats in several documents comes as cuts."""
