-- The shop's database as it runs on PostgreSQL, with the shop's own trigger that keeps updated_at.

CREATE TABLE categories (
    id          SERIAL PRIMARY KEY,
    name        VARCHAR(100) NOT NULL,
    slug        VARCHAR(100) NOT NULL UNIQUE,
    description TEXT,
    parent_id   INTEGER REFERENCES categories (id),
    created_at  TIMESTAMPTZ DEFAULT now(),
    updated_at  TIMESTAMPTZ DEFAULT now()
);

CREATE TABLE products (
    id                  SERIAL PRIMARY KEY,
    name                VARCHAR(255) NOT NULL,
    slug                VARCHAR(255) NOT NULL UNIQUE,
    sku                 VARCHAR(50) UNIQUE,
    description         TEXT,
    price               DECIMAL(10, 2) NOT NULL,
    discount_percentage DECIMAL(5, 2),
    stock_quantity      INTEGER NOT NULL DEFAULT 0,
    is_featured         BOOLEAN DEFAULT FALSE,
    is_new              BOOLEAN DEFAULT FALSE,
    image_url           VARCHAR(255),
    weight              DECIMAL(8, 2),
    dimensions          VARCHAR(50),
    category_id         INTEGER REFERENCES categories (id),
    brand               VARCHAR(100),
    status              VARCHAR(20) NOT NULL DEFAULT 'active',
    created_at          TIMESTAMPTZ DEFAULT now(),
    updated_at          TIMESTAMPTZ DEFAULT now()
);

CREATE TABLE product_images (
    id            SERIAL PRIMARY KEY,
    product_id    INTEGER REFERENCES products (id) ON DELETE CASCADE,
    image_url     VARCHAR(255) NOT NULL,
    is_primary    BOOLEAN DEFAULT FALSE,
    display_order INTEGER DEFAULT 0
);

CREATE TABLE product_variants (
    id               SERIAL PRIMARY KEY,
    product_id       INTEGER REFERENCES products (id) ON DELETE CASCADE,
    variant_type     VARCHAR(50) NOT NULL,
    variant_value    VARCHAR(50) NOT NULL,
    price_adjustment DECIMAL(10, 2) DEFAULT 0.00,
    stock_quantity   INTEGER NOT NULL DEFAULT 0,
    sku              VARCHAR(50) UNIQUE
);

CREATE TABLE orders (
    id               SERIAL PRIMARY KEY,
    user_id          INTEGER,
    order_number     VARCHAR(50) NOT NULL UNIQUE,
    status           VARCHAR(20) NOT NULL DEFAULT 'pending',
    total_amount     DECIMAL(10, 2) NOT NULL,
    shipping_address JSONB NOT NULL,
    billing_address  JSONB NOT NULL,
    payment_method   JSONB,
    payment_status   VARCHAR(50) NOT NULL DEFAULT 'pending',
    shipping_method  VARCHAR(50),
    shipping_cost    DECIMAL(10, 2) DEFAULT 0.00,
    notes            TEXT,
    created_at       TIMESTAMPTZ DEFAULT now(),
    updated_at       TIMESTAMPTZ DEFAULT now()
);

CREATE TABLE order_items (
    id           SERIAL PRIMARY KEY,
    order_id     INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    product_id   INTEGER REFERENCES products (id) ON DELETE SET NULL,
    variant_id   INTEGER REFERENCES product_variants (id) ON DELETE SET NULL,
    product_name VARCHAR(255) NOT NULL,
    quantity     INTEGER NOT NULL,
    price        DECIMAL(10, 2) NOT NULL,
    total_price  DECIMAL(10, 2) NOT NULL,
    created_at   TIMESTAMPTZ DEFAULT now()
);

CREATE TABLE order_status_history (
    id         SERIAL PRIMARY KEY,
    order_id   INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    status     VARCHAR(50) NOT NULL,
    notes      TEXT,
    created_at TIMESTAMPTZ DEFAULT now()
);

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = clock_timestamp();
    RETURN NEW;
END $$;

CREATE TRIGGER products_touch BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER categories_touch BEFORE UPDATE ON categories FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER orders_touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
