-- Does: takes seals off the front of the trail, up to one that stays, whose entries are trimmed.
-- KEYS[1]: the session's base key
-- ARGV[1]: number of the segment whose seal stays in front   ARGV[2]: that seal, raw
-- Returns: seals taken; 0 if that seal is not there, or its entries are
-- Errors:  WRONGTYPE, with nothing written
local seals, state = KEYS[1] .. ':audit_seals', KEYS[1] .. ':audit_state'
local found = redis.call('HMGET', state, 'seals_gone', 'trimmed')
local count = tonumber(ARGV[1]) - 1 - (tonumber(found[1] or '0') or 0)
if count <= 0 or redis.call('LINDEX', seals, count) ~= ARGV[2]
    or (tonumber(found[2] or '0') or 0) < cjson.decode(ARGV[2]).last_seq then
  return 0
end
redis.call('LTRIM', seals, count, -1)
redis.call('HSET', state, 'seals_gone', string.format('%.0f', tonumber(ARGV[1]) - 1))
return count
