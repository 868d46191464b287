"""The worker that template_conformance.py asks for, in Python."""
import os
import random


def main():
    print(os.environ["SAYS"], random.getrandbits(60), flush=True)
    return int(input())
