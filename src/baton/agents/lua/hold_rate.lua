-- Does: grants no call of a model for a time; its buckets are empty when that ends.
-- KEYS[1]: the model's buckets, a hash; siblings as in rate.lua
-- ARGV[1..3]: the limits, as in rate.lua   ARGV[4]: seconds
-- Returns: 1
-- Errors: none of its own
-- include: clock.lua
-- include: rate.lua
local rate = load_rate(KEYS[1], redis_now())
rate.held_until = math.max(rate.held_until, rate.now + tonumber(ARGV[4]))
rate.requests.level = math.min(0, rate.requests.level)
rate.tokens.level = math.min(0, rate.tokens.level)
save_rate(KEYS[1], rate)
return 1
