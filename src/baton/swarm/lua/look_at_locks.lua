-- Does: reads locks that are held now.
-- KEYS[1]: locks:{session}
-- ARGV[1]: a name, or "" for all
-- Returns: name, JSON, name, JSON ...
-- Errors:  none of its own
-- include: locks.lua
local now_ms = redis_now_ms()
local stored = ARGV[1] == '' and redis.call('HGETALL', KEYS[1])
               or {ARGV[1], redis.call('HGET', KEYS[1], ARGV[1])}
local held = {}
for i = 1, #stored, 2 do
  if stored[i + 1] and cjson.decode(stored[i + 1]).ends_at > now_ms then
    held[#held + 1] = stored[i]
    held[#held + 1] = stored[i + 1]
  end
end
return held
