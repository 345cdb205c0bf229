-- Does: writes the record of a new agent, stamped with this server's clock.
-- KEYS[1]: agents:{id}, a hash
-- ARGV[1]: operation id of this registration; a repeat of it changes nothing
-- ARGV[2]: expiry in ms
-- ARGV[3...]: the other fields, as name, value, name, value ...
-- Returns: registered_at in ms since the epoch, or nil if the id is another agent's
-- Errors: none of its own

local recorded = redis.call('HMGET', KEYS[1], 'operation_id', 'registered_at')
if recorded[1] then
  if recorded[1] == ARGV[1] then
    return recorded[2]
  end
  return false
end

local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'operation_id', ARGV[1], 'registered_at', now_ms, unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return now_ms
