# SPDX-License-Identifier: Apache-2.0
"""Remote calls: one table of handlers, and how a request becomes a reply.

Each module owns one family and a ``HANDLERS`` table; a name that is in none is answered with
rpclib's own "could not find function".
"""
