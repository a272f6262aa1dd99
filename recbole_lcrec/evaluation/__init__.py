"""What a model is asked, what it answered, and how good that was, user by user."""
