"""Models that rank what is known of who asks, when and in which context; and two stages of them."""
