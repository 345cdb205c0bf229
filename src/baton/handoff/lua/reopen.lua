-- Does: has an ended handoff go on, with nodes as staged: everything at once, whatever its size
-- KEYS[1]: the handoff's base key
-- ARGV[1]: JSON {id, round, pending, counts: {state: nodes}, caps: {name: cap}, settled_late: as it
--          was when the nodes were read}
-- ARGV[2]: staging key of the nodes' hash   ARGV[3]: staging key of the queue
-- Returns: "reopened"; "missing" if what was staged has expired, or is not what the nodes are any
--          more; else the state that the handoff is
--          in, as it has not ended, or not in the round before. Asked twice, answers the same.
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local ENDED = {done = true, degraded = true, failed = true, cancelled = true}
local state, round, reopened_by = unpack(header(base, 'state', 'round', 'reopened_by'))
if reopened_by == request.id then
  return 'reopened'
end
if not ENDED[state] or tonumber(round or '0') + 1 ~= request.round then
  redis.call('DEL', ARGV[2], ARGV[3])
  return state or 'gone'
end
local settled_late = redis.call('HGET', base, 'settled_late') or '0'
if redis.call('EXISTS', ARGV[2], ARGV[3]) ~= 2 or settled_late ~= request.settled_late then
  return 'missing'
end
redis.call('UNLINK', base .. ':nodes')  -- RENAME would free thousands of nodes meanwhile
redis.call('RENAME', ARGV[2], base .. ':nodes')
redis.call('RENAME', ARGV[3], base .. ':queue')
redis.call('DEL', base .. ':breaker')
for name, cap in pairs(request.caps) do
  redis.call('HSET', base .. ':budget', name, number_text(cap))
end
redis.call('HDEL', base, 'begun', 'cuts', 'ended_at', 'cancelled_at', 'failed_fast', 'error',
           'error_type', 'ended_by', 'join_until', 'join_claimed_by', 'join_worker')
local now_ms = redis_now_ms()
local patience, deadline_ms = unpack(header(base, 'patience_ms', 'deadline_ms'))
if deadline_ms then
  redis.call('HSET', base, 'deadline_at', number_text(now_ms + tonumber(deadline_ms)))
end
wake_at(base, 'start', now_ms + tonumber(patience))
-- A join of the round before must not end this one; attempts are counted from here.
local join_base = redis.call('HINCRBY', base, 'join_fence', 1)
redis.call('HSET', base, 'state', 'running', 'round', request.round, 'reopened_by', request.id,
           'pending', request.pending, 'join_base', join_base, 'queued', request.counts.waiting)
for each, count in pairs(request.counts) do
  redis.call('HSET', base, 'n:' .. each, count)
  local counted = redis.call('HGET', base, 'counted:' .. each)  -- those that go again end again
  if counted and tonumber(counted) > count then
    redis.call('HSET', base, 'counted:' .. each, count)
  end
end
emit(base, {type = 'handoff', state = 'running', round = request.round})
keep_alive(base, true)
return 'reopened'
