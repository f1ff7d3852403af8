"""The things world: emoji artwork on simple grounds, 64x64 pixels."""
