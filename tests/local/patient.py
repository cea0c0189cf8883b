"""Requests of tests: a machine that has much else to do may take longer over them than clients wait."""

from functools import partial

import httpx

get, post, put = (partial(method, timeout=60) for method in (httpx.get, httpx.post, httpx.put))
