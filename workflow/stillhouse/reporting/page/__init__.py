"""The page of an experiment: leaderboards, charts, images, costs and lineage in one HTML file."""
