"""
A worker that runs a pool of its own: it counts primes with multiprocessing, and says how far it is.
The pool's processes belong to the worker's tree; when it is asked to end it finishes the round.
"""
import multiprocessing
import time

import reeve

STEP, STEPS = 20000, 50


def count(begin):
    """Primes in [begin, begin + STEP)."""
    def is_prime(n):
        return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))
    return sum(is_prime(n) for n in range(begin, begin + STEP))


def main():
    reeve.ready()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        while not reeve.stopping():
            total = 0
            parts = pool.imap_unordered(count, range(0, STEP * STEPS, STEP))
            for done, found in enumerate(parts, 1):
                total += found
                reeve.progress(done, STEPS)
                reeve.status(f"{total} primes below {done * STEP}, roughly")
                if reeve.stopping():
                    break
                time.sleep(0.05)  # for the example: leave something of the machine to others
            reeve.jobs(1)
    print("ended with", total, "primes", flush=True)
