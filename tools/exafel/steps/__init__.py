"""One module a step: the only thing that rules, apps and the command line call."""
