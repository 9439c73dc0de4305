"""What is wrong with a collector, its store and what is around it, before or after it shows: `pulsestream-collector doctor`."""
