"""The page of `--serve`: two pictures, keypoints to click, and their matches."""
