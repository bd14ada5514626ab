"""The tiny base model of the quickstart, made from random weights by staged warm-ups on the synthetic world."""
