"""Augmentation operations, policies and recorded views."""
