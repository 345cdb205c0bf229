-- Does: gives a node's worker the right to send one paid call, charged with the most it can take
-- KEYS[1]: the handoff's base key
-- ARGV[1]: node   ARGV[2]: fencing token   ARGV[3]: permit   ARGV[4]: tokens at most
-- ARGV[5]: nano-dollars at most   ARGV[6]: ms until it counts as spent   ARGV[7]: ms to send it in
-- Returns: {"granted"}; {"wait"} while other permits hold what is left; {"over", account (a node,
--          or "" for the handoff), "tokens" | "nano", cap, spent}; {"cancelled"}; {"broken", why};
--          {"late"} past the handoff's deadline; {"fenced", state}. Asked twice, answers the same.
-- Errors:  none of its own
-- include: tree.lua
-- include: budget.lua
local base = KEYS[1]
local id = ARGV[1]
local permit = ARGV[3]
local asked = {tokens = tonumber(ARGV[4]), nano = tonumber(ARGV[5])}
local node = load_node(base, id)
-- One that was granted to an answer that got lost is used by nobody: who asks again is refused.
if not node or node.state ~= 'leased' or node.fence ~= tonumber(ARGV[2]) then
  take_back(base, permit)
  return {'fenced', node and node.state or 'gone'}
end
if is_stopped(base, id) then
  take_back(base, permit)
  return {'cancelled'}
end
if redis.call('HEXISTS', base .. ':permits', permit) == 1 then
  return {'granted'}
end
local why = redis.call('GET', base .. ':breaker')
if why then
  return {'broken', why}
end
local now_ms = redis_now_ms()
local deadline, retention = unpack(header(base, 'deadline_at', 'retention_ms'))
if deadline and now_ms >= tonumber(deadline) then
  return {'late'}
end
lapse_permits(base, now_ms)
local waits = false
for _, prefix in ipairs(accounts_of(base, id)) do
  for what, amount in pairs(asked) do
    local cap, spent, held =
      unpack(redis.call('HMGET', base .. ':budget', prefix .. 'cap_' .. what,
                        prefix .. 'spent_' .. what, prefix .. 'held_' .. what))
    spent, held = tonumber(spent or '0'), tonumber(held or '0')
    if cap and spent + amount > tonumber(cap) then
      return {'over', string.sub(prefix, 1, -2), what, cap, number_text(spent)}
    end
    waits = waits or cap and spent + held + amount > tonumber(cap)
  end
end
if waits then
  return {'wait'}
end
hold(base, permit, id, asked.tokens, asked.nano)
redis.call('ZADD', base .. ':permit_ends', number_text(now_ms + tonumber(ARGV[6])), permit)
local last_send = math.max(tonumber(redis.call('HGET', base, 'last_send_at') or '0'),
                           now_ms + tonumber(ARGV[7]))
redis.call('HSET', base, 'last_send_at', number_text(last_send))
for _, suffix in ipairs({':budget', ':permits', ':permit_ends'}) do
  redis.call('PEXPIRE', base .. suffix, tonumber(retention))
end
return {'granted'}
