-- Does: commits what became of a node, for the holder of its newest fencing token only
-- KEYS[1]: the handoff's base key
-- ARGV[1]: node   ARGV[2]: fencing token   ARGV[3]: ok | failed | over_budget | retry
-- ARGV[4]: JSON {error_type, error, usage, cost_nano, details (JSON text), size_bytes,
--          retry_after_ms, refused_children}; usage and cost are what no permit was settled for
-- ARGV[5]: staging key of a large result, or ""   ARGV[6]: a small result itself, or ""
-- Returns: {"done", the state the node got, publish JSON}, {"fenced", state, "[]"} for a late
--          worker, {"missing", "", "[]"} if the staged result has expired. Asked twice, answers
--          the same.
-- Errors:  none of its own
-- include: tree.lua
-- include: window.lua
-- include: budget.lua
local base = KEYS[1]
local id = ARGV[1]
local fence = tonumber(ARGV[2])
local verdict = ARGV[3]
local extra = cjson.decode(ARGV[4])
local staged = ARGV[5]
local node = load_node(base, id)
if not node then
  return {'fenced', 'gone', '[]'}
end
if node.finished_by == fence and node.fence == fence then
  local state, parent_id = redis.call('HGET', base, 'state'), parent_of(id)
  if state == 'running' and redis.call('HGET', base, 'failed_fast') == id then
    return {'done', node.state, '[["cancel"]]'}
  end
  local parent = parent_id ~= '' and load_node(base, parent_id)
  local next_id = redis.call('HGET', plan_of(base, id), id .. ':next')
  if state == 'joining' then
    return {'done', node.state, '[["join"]]'}
  elseif parent and parent.state == 'waiting' then
    return {'done', node.state, cjson.encode({{'run', parent_id}})}
  elseif next_id and node.state == 'ok' then
    return {'done', node.state, cjson.encode({{'next', next_id}})}
  end
  return {'done', node.state, '[]'}
end
if node.state ~= 'leased' or node.fence ~= fence then
  return {'fenced', node.state, '[]'}
end
if staged ~= '' and redis.call('EXISTS', staged) == 0 then
  return {'missing', '', '[]'}
end

local now_ms = redis_now_ms()
local publish = {}
for _, name in ipairs({'error_type', 'error', 'details', 'size_bytes'}) do
  node[name] = extra[name]
end
if extra.usage or extra.cost_nano then
  spend(base, id, node, extra.usage or {}, extra.cost_nano or 0)
end
if extra.refused_children then
  redis.call('HINCRBY', base, 'refused_children', extra.refused_children)
end
node.finished_by = fence
local max_attempts = redis.call('HGET', base, 'max_attempts')
if is_stopped(base, id) then
  verdict = 'cancelled'
elseif verdict == 'retry' and node.attempt >= tonumber(max_attempts) then
  verdict = 'failed'
end
if verdict == 'retry' then
  move(base, id, node, 'waiting')
  node.unpublished = true
  save_node(base, id, node)
  wake_at(base, id, now_ms + extra.retry_after_ms)
  return {'done', 'waiting', '[]'}
end
if verdict == 'ok' then
  local retention_ms = tonumber(redis.call('HGET', base, 'retention_ms'))
  if staged ~= '' then
    redis.call('RENAME', staged, base .. ':results:' .. id)
    redis.call('PEXPIRE', base .. ':results:' .. id, retention_ms)
  else
    redis.call('SET', base .. ':results:' .. id, ARGV[6], 'PX', retention_ms)
  end
elseif staged ~= '' then
  redis.call('DEL', staged)
end
end_node(base, id, node, verdict, now_ms, publish)
ask_for_more(base, publish, now_ms)
keep_alive(base)
return {'done', verdict, publish_json(publish)}
