"""What pipelines that look at pictures share: reading them, naming classes, finding objects."""
