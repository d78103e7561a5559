"""Runs any task under any protocol; names none."""
