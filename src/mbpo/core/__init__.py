"""The algorithm; it knows neither linear-quadratic systems nor Gymnasium."""

from mbpo.core.threads import size_thread_pools

size_thread_pools()
