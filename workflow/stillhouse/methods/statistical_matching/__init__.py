"""SRe2L, G-VBSM and EDC: images optimised to match feature statistics."""
