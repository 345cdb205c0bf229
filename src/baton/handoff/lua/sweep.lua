-- Does: looks at what is due in one handoff: leases that lapsed, messages that nobody came for,
--       joins that did not happen. Changes their state, and answers what to publish again.
-- KEYS[1]: the handoff's base key
-- ARGV[1]: members at most   ARGV[2]: "1" if messages are still queued, so that a node nobody came
--          for has probably just not had its turn
-- Returns: {state, publish JSON, members looked at}
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local state, cancelled, patience, max_attempts =
  unpack(header(base, 'state', 'cancelled_at', 'patience_ms', 'max_attempts'))
if state ~= 'running' and state ~= 'joining' then
  return {state or 'gone', '[]', 0}
end
local now_ms = redis_now_ms()
local patience_ms = tonumber(patience)
local publish = {}
local MOST_SKIPS = 4

local function publish_again(id, node)
  node.skipped = (node.skipped or 0) + 1
  if ARGV[2] ~= '1' or node.skipped > MOST_SKIPS then
    node.skipped = 0
    publish[#publish + 1] = {'run', id}
  end
  save_node(base, id, node)
  wake_at(base, id, now_ms + patience_ms)
end

local function look_at(id, node)
  if node.state == 'waiting' then
    if cancelled then
      end_node(base, id, node, 'cancelled', now_ms, publish)
    else
      publish_again(id, node)
    end
  elseif node.state ~= 'leased' then
    redis.call('ZREM', base .. ':due', id)
  elseif cancelled then
    end_node(base, id, node, 'cancelled', now_ms, publish)
  elseif now_ms >= node.deadline then
    node.error_type = 'TimeoutError'
    node.error = 'it ran longer than its timeout of '
                 .. number_text((node.deadline - node.claimed_at) / 1000) .. ' s'
    end_node(base, id, node, 'failed', now_ms, publish)
  elseif node.attempt >= tonumber(max_attempts) then
    node.error_type = 'LostError'
    node.error = 'its worker was lost in each of ' .. number_text(node.attempt) .. ' attempts'
    end_node(base, id, node, 'lost', now_ms, publish)
  else
    move(base, id, node, 'waiting')
    save_node(base, id, node)
    wake_at(base, id, now_ms + patience_ms)
    publish[#publish + 1] = {'run', id}
  end
end

local members = redis.call('ZRANGEBYSCORE', base .. ':due', '-inf', number_text(now_ms),
                           'LIMIT', 0, tonumber(ARGV[1]))
for _, member in ipairs(members) do
  if member == 'start' or member == 'join' then
    wake_at(base, member, now_ms + patience_ms)
    publish[#publish + 1] = {member}
  else
    local node = load_node(base, member)
    if node then
      look_at(member, node)
    else
      redis.call('ZREM', base .. ':due', member)
    end
  end
end
return {redis.call('HGET', base, 'state'), #publish > 0 and cjson.encode(publish) or '[]', #members}
