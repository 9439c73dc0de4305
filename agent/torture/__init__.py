"""Doing to the agent what production does to it, and worse, and counting every line afterwards.

Apps that rotate, compress and delete their logs; an agent that is killed; a network and a collector that answer late,
wrongly or not at all. Random, but the same seed makes the same choices. At the end the weather is fine, everything is
let through, and each line that was written has to be stored once.

    apps (`writers`) → files → agent → bad weather (`weather`) → target: a collector, or a sink of our own (`targets`)
"""
