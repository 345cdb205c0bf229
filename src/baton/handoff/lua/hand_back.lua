-- Does: takes a node back from a worker that has to stop before it ends: it waits again, at once.
--       That was no attempt: workers come and go, and a node has only so many.
-- KEYS[1]: the handoff's base key
-- ARGV[1]: node   ARGV[2]: fencing token
-- Returns: publish JSON; none for a late worker
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local id = ARGV[1]
local node = load_node(base, id)
if redis.call('HGET', base, 'state') ~= 'running' or not node or node.state ~= 'leased'
   or node.fence ~= tonumber(ARGV[2]) or is_stopped(base, id) then
  return '[]'
end
local patience_ms = tonumber(redis.call('HGET', base, 'patience_ms'))
node.attempt = node.attempt - 1
move(base, id, node, 'waiting')
save_node(base, id, node)
wake_at(base, id, redis_now_ms() + patience_ms)
keep_alive(base)
return cjson.encode({{'run', id}})
