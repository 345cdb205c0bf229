-- Does: has an ended handoff go on, with nodes as staged: everything at once, whatever its size
-- KEYS[1]: the handoff's base key
-- ARGV[1]: JSON {id, round, pending, counts: {state: nodes}}   ARGV[2]: staging key of the nodes' hash
-- ARGV[3]: staging key of the due set
-- Returns: "reopened"; "missing" if what was staged has expired; else the state that the handoff is
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
if redis.call('EXISTS', ARGV[2], ARGV[3]) ~= 2 then
  return 'missing'
end
redis.call('RENAME', ARGV[2], base .. ':nodes')
redis.call('RENAME', ARGV[3], base .. ':due')
redis.call('HDEL', base, 'ended_at', 'cancelled_at', 'failed_fast', 'error', 'error_type',
           'ended_by', 'join_until', 'join_claimed_by', 'join_worker')
-- A join of the round before must not end this one; attempts are counted from here.
local join_base = redis.call('HINCRBY', base, 'join_fence', 1)
redis.call('HSET', base, 'state', 'running', 'round', request.round, 'reopened_by', request.id,
           'pending', request.pending, 'join_base', join_base)
for each, count in pairs(request.counts) do
  redis.call('HSET', base, 'n:' .. each, count)
end
emit(base, {type = 'handoff', state = 'running', round = request.round})
keep_alive(base)
return 'reopened'
