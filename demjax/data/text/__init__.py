"""Sentences and words: captions of classes and images, vocabularies, word vectors, files of other programs."""
