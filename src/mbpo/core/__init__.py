"""The algorithm; it knows neither linear-quadratic systems nor Gymnasium."""

from mbpo.core.threads import size_thread_pools, unroll_random_numbers

size_thread_pools()
unroll_random_numbers()
