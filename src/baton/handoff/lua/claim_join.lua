-- Does: gives the join of a handoff to a worker, as claim.lua does a node
-- KEYS[1]: the handoff's base key
-- ARGV[1]: worker   ARGV[2]: the claimant's operation id
-- Returns: {"claimed", fence} or {"refused", state}; a join that no attempt brought to an end
--          fails the handoff. Asked twice by the same claimant, answers the same.
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local state, lease_ms, join_until, max_attempts, claimed_by, held_fence, join_base =
  unpack(header(base, 'state', 'lease_ms', 'join_until', 'max_attempts', 'join_claimed_by',
                'join_fence', 'join_base'))
if state ~= 'joining' then
  return {'refused', state or 'gone'}
end
if claimed_by == ARGV[2] then
  return {'claimed', tonumber(held_fence)}
end
local now_ms = redis_now_ms()
if tonumber(join_until or '0') > now_ms then
  return {'refused', 'joining'}
end
local fence = redis.call('HINCRBY', base, 'join_fence', 1)
if fence - tonumber(join_base or '0') > tonumber(max_attempts) then
  redis.call('HSET', base, 'error', 'no attempt of ' .. max_attempts .. ' to merge came to an end',
             'error_type', 'LostError')
  end_handoff(base, 'failed', now_ms)
  return {'refused', 'failed'}
end
local until_ms = now_ms + tonumber(lease_ms)
redis.call('HSET', base, 'join_until', number_text(until_ms), 'join_worker', ARGV[1],
           'join_claimed_by', ARGV[2])
wake_at(base, 'join', until_ms)
return {'claimed', fence}
