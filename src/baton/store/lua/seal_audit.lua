-- Does: appends a seal, if the last one is still the one that the new one was chained to.
-- KEYS[1]: the session's base key
-- ARGV[1]: the last seal as the sealer saw it, or ""   ARGV[2]: the new seal   ARGV[3]: its last_seq
-- Returns: 1 it is the last seal, now or already; 0 another came first, or the entries are gone
-- Errors:  WRONGTYPE, with nothing written
-- include: audit.lua
local base = KEYS[1]
local seals = base .. ':audit_seals'
local last = redis.call('LINDEX', seals, -1) or ''
if last == ARGV[2] then
  return 1
end
-- Trimmed entries are counted: they were sealed before they went.
local trimmed = tonumber(redis.call('HGET', base .. ':audit_state', 'trimmed') or '0')
if last ~= ARGV[1] or trimmed + redis.call('LLEN', base .. ':audit') < tonumber(ARGV[3]) then
  return 0
end
local now = redis.call('TIME')
redis.call('RPUSH', seals, ARGV[2])
keep_audit(base, tonumber(now[1]) * 1000 + math.ceil(tonumber(now[2]) / 1000))
return 1
