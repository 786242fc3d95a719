"""Reading: what contrast pairs say about each layer, from one pass over them."""
