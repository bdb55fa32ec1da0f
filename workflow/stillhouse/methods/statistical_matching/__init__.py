"""SRe2L, CDA, G-VBSM and EDC: images optimised to match feature statistics."""
