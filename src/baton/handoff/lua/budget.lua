-- Shared by the scripts that spend: the accounts of a handoff's budget.
--
-- `budget` is a hash. The handoff's own account has the fields `cap_tokens`, `cap_nano` (a cap that
-- is not there bounds nothing), `spent_tokens`, `spent_nano`, `held_tokens`, `held_nano`; the share
-- of a node's part of the tree has the same, behind "{node}:". Money is nano-dollars, whole: a Lua
-- number holds nine million dollars of them.
-- `permits` is a hash: permit -> JSON {node, tokens, nano}; `permit_ends` a sorted set: permit ->
-- when it counts as spent (ms). Amounts in JSON are texts: cjson writes numbers with 14 digits.
-- Needs tree.lua.
local LAPSED_AT_ONCE = 100

-- The accounts that a node's spending counts against, by the prefix of their fields.
local function accounts_of(base, id)
  local prefixes = {''}
  if redis.call('HEXISTS', base .. ':budget', 'shares') == 0 then
    return prefixes
  end
  while id ~= '' do
    local caps = redis.call('HMGET', base .. ':budget', id .. ':cap_tokens', id .. ':cap_nano')
    if caps[1] or caps[2] then
      prefixes[#prefixes + 1] = id .. ':'
    end
    id = parent_of(id)
  end
  return prefixes
end

local function charge(base, id, what, tokens, nano)
  for _, prefix in ipairs(accounts_of(base, id)) do
    for unit, amount in pairs({tokens = tokens, nano = nano}) do
      if amount ~= 0 then  -- Lua writes a negated zero as -0, which is no number to Redis
        redis.call('HINCRBY', base .. ':budget', prefix .. what .. '_' .. unit, number_text(amount))
      end
    end
  end
end

local function tokens_of(usage)
  local sum = 0
  for _, count in pairs(usage) do
    sum = sum + count
  end
  return sum
end

-- What a node has used, for good. The caller saves the node.
local function spend(base, id, node, usage, nano)
  charge(base, id, 'spent', tokens_of(usage), nano)
  redis.call('PEXPIRE', base .. ':budget', tonumber(redis.call('HGET', base, 'retention_ms')))
  node.usage = node.usage or {}
  for name, count in pairs(usage) do
    node.usage[name] = (node.usage[name] or 0) + count
  end
  node.cost_nano = number_text(tonumber(node.cost_nano or 0) + nano)
end

local function hold(base, permit, id, tokens, nano)
  charge(base, id, 'held', tokens, nano)
  redis.call('HSET', base .. ':permits', permit,
             cjson.encode({node = id, tokens = number_text(tokens), nano = number_text(nano)}))
end

-- Takes a permit back, from what it counts as; its JSON, or nil if there is none.
local function take_back(base, permit)
  local stored = redis.call('HGET', base .. ':permits', permit)
  if not stored then
    return nil
  end
  local held = cjson.decode(stored)
  redis.call('HDEL', base .. ':permits', permit)
  redis.call('ZREM', base .. ':permit_ends', permit)
  charge(base, held.node, held.lapsed and 'spent' or 'held', -tonumber(held.tokens),
         -tonumber(held.nano))
  return held
end

-- Permits that nobody settled in time: their workers were lost, and the calls were probably paid.
local function lapse_permits(base, now_ms)
  local ends = base .. ':permit_ends'
  for _, permit in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', number_text(now_ms), 'LIMIT', 0,
                                     LAPSED_AT_ONCE)) do
    local held = cjson.decode(redis.call('HGET', base .. ':permits', permit))
    local tokens, nano = tonumber(held.tokens), tonumber(held.nano)
    charge(base, held.node, 'held', -tokens, -nano)
    charge(base, held.node, 'spent', tokens, nano)
    held.lapsed = true
    redis.call('HSET', base .. ':permits', permit, cjson.encode(held))
    redis.call('ZREM', ends, permit)
  end
end
