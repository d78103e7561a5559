"""Zero-shot systems over the images and classes of a ClassSet, one file a paper."""
