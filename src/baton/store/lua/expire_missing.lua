-- Does: gives a key that has no expiry one
-- KEYS[1]: the key
-- ARGV[1]: how long it is to live, in ms
-- Returns: 1; 0 if it has one, or is gone
-- Errors:  none of its own
if redis.call('PTTL', KEYS[1]) ~= -1 then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
