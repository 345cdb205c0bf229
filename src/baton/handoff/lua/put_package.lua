-- Does: keeps a handoff's package, unless one is kept under its id
-- KEYS[1]: the handoff's base key
-- ARGV[1]: digest of the package as it was given   ARGV[2]: the package, a blob   ARGV[3]: expiry in ms
-- Returns: {"put", ""}; {"kept", blob} if one that was given the same is kept; {"other", ""}
-- Errors:  none of its own
local package = KEYS[1] .. ':package'
local source, stored = unpack(redis.call('HMGET', package, 'source', 'package'))
if source and source ~= ARGV[1] then
  return {'other', ''}
end
if not source then
  redis.call('HSET', package, 'source', ARGV[1], 'package', ARGV[2])
end
redis.call('PEXPIRE', package, math.max(tonumber(ARGV[3]), redis.call('PTTL', package)))
return source and {'kept', stored} or {'put', ''}
