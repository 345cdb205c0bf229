-- Does: tells how many nodes have ended in each state since this was asked before, and whether the
--       handoff has. What is told is noted, so that it is counted once, however often it is asked.
-- KEYS[1]: the handoff's base key
-- ARGV[1..]: the states that a node can end in
-- Returns: {state of the handoff, or `` where its end was told or is not there; seconds that it took
--          in ms, or -1 for a retry's; nodes in the state ARGV[1], in ARGV[2], ...}
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local ENDED = {done = true, degraded = true, failed = true, cancelled = true}
local state, round, counted_end, created_at, ended_at =
  unpack(header(base, 'state', 'round', 'counted_end', 'created_at', 'ended_at'))
round = round or '0'
local answer = {'', -1}
if not ENDED[state] then
  return answer
end
if counted_end ~= round then
  redis.call('HSET', base, 'counted_end', round)
  answer[1] = state
  if round == '0' and created_at and ended_at then
    answer[2] = tonumber(ended_at) - tonumber(created_at)
  end
end
for i = 1, #ARGV do
  local now = tonumber(redis.call('HGET', base, 'n:' .. ARGV[i]) or '0')
  local before = tonumber(redis.call('HGET', base, 'counted:' .. ARGV[i]) or '0')
  answer[i + 2] = math.max(0, now - before)
  if now ~= before then
    redis.call('HSET', base, 'counted:' .. ARGV[i], number_text(now))
  end
end
return answer
