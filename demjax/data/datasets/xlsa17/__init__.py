"""TFDS builder of the five "good, bad and ugly" benchmarks; see README.md beside this file."""
