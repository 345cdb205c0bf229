-- Does: replaces a session's wrapped data key by the same key under another master key
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {agent, caller, from, to}   ARGV[2]: the wrapped key as it was   ARGV[3]: as it is to be
-- Returns: 1 replaced, now or already; 0 it is another by now, or the session is gone
-- Errors:  none of its own
-- include: expiry.lua
-- include: audit.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local wrapped = redis.call('GET', base .. ':key')
if wrapped == ARGV[3] then
  return 1
end
if wrapped ~= ARGV[2] then
  return 0
end
check_audit(base)
redis.call('SET', base .. ':key', ARGV[3], 'KEEPTTL')
append_audit(base, {at = math.floor(redis_now_us() / 1000), agent = request.agent,
                    operation = 'rewrapped', version = '', caller = request.caller,
                    details = {from = request.from, to = request.to}})
return 1
