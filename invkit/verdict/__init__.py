"""What is known of a layer, and the words that figures justify."""
