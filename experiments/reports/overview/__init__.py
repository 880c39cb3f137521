"""The command `report`: one static page on every table, run, curve, sweep and imagined future below a folder."""
