"""Local disk: staging (data not yet safe on Usenet) and the cache (data that can be had again).

Blocking and thread-safe; knows neither trio nor the index nor what an article holds.
"""
