-- Does: opens a handoff whose plan has been staged: from here on it exists for all others
-- KEYS[1]: the handoff's base key
-- ARGV[1]: JSON of the header fields, `request` its digest   ARGV[2]: number of first-level nodes
-- ARGV[3]: staging key of the plan   ARGV[4]: JSON of the budget's caps
-- Returns: 1 opened, 0 this request has opened it already, -1 another request has
-- Errors:  BATON_PLAN if the plan does not hold that many nodes
-- include: tree.lua
local base = KEYS[1]
local count = tonumber(ARGV[2])
local fields = cjson.decode(ARGV[1])
if redis.call('HEXISTS', base, 'state') == 1 then
  redis.call('DEL', ARGV[3])
  return redis.call('HGET', base, 'request') == fields.request and 0 or -1
end
if redis.call('HLEN', ARGV[3]) ~= count then
  return redis.error_reply('BATON_PLAN the plan holds ' .. redis.call('HLEN', ARGV[3])
                           .. ' nodes, expected ' .. count)
end
local now_ms = redis_now_ms()
redis.call('RENAME', ARGV[3], base .. ':plan')
for name, value in pairs(fields) do
  redis.call('HSET', base, name, value)
end
for name, cap in pairs(cjson.decode(ARGV[4])) do
  redis.call('HSET', base .. ':budget', name, number_text(cap))
end
if fields.deadline_ms then
  redis.call('HSET', base, 'deadline_at', number_text(now_ms + fields.deadline_ms))
end
redis.call('HSET', base, 'state', 'running', 'created_at', number_text(now_ms),
           'total', count, 'pending', count, 'n:waiting', count, 'queued', count)
redis.call('RPUSH', base .. ':queue', ':0:' .. number_text(count - 1))
wake_at(base, 'start', now_ms + tonumber(fields.patience_ms))
emit(base, {type = 'handoff', state = 'running', nodes = count})
keep_alive(base, true)
return 1
